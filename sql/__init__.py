"""The statements, one a file, numbered along the flow from logs to scores; `esmm.samples` draws how they hang together.

A package so that they ship in a zip.
"""
