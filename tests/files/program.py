"""Encrypts or decrypts a file with the Python client: program.py encrypt|decrypt SOURCE TARGET"""

import sys

from claviger_client import Client, files

command, source, target = sys.argv[1:]
context = {"table": "orders"}
with Client.from_env() as claviger:
    if command == "encrypt":
        files.encrypt_file(claviger, "orders", source, target, context=context)
    else:
        files.decrypt_file(claviger, source, target, context=context)
