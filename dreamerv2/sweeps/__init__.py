"""Many runs at once: what to run, where each stands, and who may work on it.

Only `ray_pool` needs Ray; everything else works where it is not installed.
"""
