"""Type and range of every setting.

`conf/` holds the choices and their defaults; this package defines which values are allowed, so that a wrong
one is reported before anything is loaded or written. A field marked `FREE` does not affect the result (the
folder of the data, the number of worker processes): it is left out of the run's identity.
"""
