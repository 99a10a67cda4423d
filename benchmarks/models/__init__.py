"""What `make bench-models` consists of, in the order in which it happens.

rows ─▶ training, boosting ─▶ figures, bootstrap ─▶ report
"""
