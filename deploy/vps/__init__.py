"""The relay on a small server with a disk: `make deploy-vps`."""
