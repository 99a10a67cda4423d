"""From exposure, click and purchase logs to a table of pCTR, pCVR and pCTCVR.

One exposure's way, in the order of the modules that see it: `samples` turns log rows into a sample,
`publish` makes the day's samples visible, `dataset` streams them to `training`, which fits a model from
`models`; `export` freezes it, and `scoring` applies it to tomorrow's candidates.
"""

__version__ = "0.1.0"
