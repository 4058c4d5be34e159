"""Console pages of the installation itself, and what all pages share; `admin.py` above registers them."""
