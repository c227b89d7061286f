"""How property tests run here: no deadline (a busy machine is no failure), the same examples every time."""

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("house")
