"""Names, profiles, grants, certificates and revocation lists: no I/O and no clock."""
