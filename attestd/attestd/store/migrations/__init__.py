"""The history of the schema, for alembic. One file in versions/ for each step; the first creates everything."""
