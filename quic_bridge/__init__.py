"""The QUIC server that agents connect to. It owns no tables: what it learns goes through the other apps' functions."""
