"""A passing result becomes a grant, a grant becomes credentials. No appraisal, no credential."""
