"""Artefacts become reference values: what an image, a package or a maker's manifest says a machine will measure.

Proves nothing about any machine and decides nothing: what comes out is a draft that a person reads and operators sign.
"""
