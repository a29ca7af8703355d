"""The web page: the API behind a login on loopback, and pages for people."""
