"""Ids to vectors to logits, one file a layer, in the order that a batch goes through them.

    hashing, buckets ─▶ rules ─▶ tables ─▶ pooling ─▶ lists ─▶ inputs ─▶ towers
    variables: what they are all drawn by

Shapes, as the ends of the tensors' names say: b samples of a batch, n entries of a list, m ids that a batch
looks up in one table, or entries that are there, u rows of a table that a batch needs, d floats a row, i inputs.
"""
