"""Ids to vectors to logits, one file a layer, in the order that a batch goes through them.

    hashing ─▶ tables ─▶ pooling ─▶ inputs ─▶ towers          variables: what they are all drawn by

Shapes, as the ends of the tensors' names say: b samples of a batch, n entries of a list, m ids that a batch
looks up in one table, u rows of the table that these ids need, d floats a row, i inputs of a tower.
"""
