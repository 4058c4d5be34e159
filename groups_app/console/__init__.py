"""Console pages of host groups, hosts, tokens and rules; `admin.py` above registers them."""
