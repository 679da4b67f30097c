"""The outermost room: HTTP in, problem documents out. Routers decide nothing."""
