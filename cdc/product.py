"""Which release of the product is this?"""

__version__ = "0.1.0"
