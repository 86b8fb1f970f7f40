"""Artifacts: a trained router as a directory of plain files, identified by a digest and verified before anything in it is used.

Owns the manifest, reading, writing and the model card. Must not know how estimates are used, nor fetch anything.
"""
