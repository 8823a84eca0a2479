"""pytest puts the folder of this file on the path, where the tests find fusion.py."""
