"""The reconciler's own tables and all SQL that the reconciler speaks; `store.py` is the way in."""
