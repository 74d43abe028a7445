"""Verifies every DKIM signature of a message with dkimpy.

usage: verify_dkim.py MESSAGE NAME VALUE
The one TXT record that exists is NAME (without a trailing dot) with VALUE. Prints one JSON object
{"signatures": [{"valid", "domain", "selector", "algorithm", "headers"}]}.
"""

import json
import sys

import dkim


def main():
    path, name, value = sys.argv[1:]
    with open(path, "rb") as file:
        message = file.read()

    def records(asked, timeout=5):
        asked = asked.decode() if isinstance(asked, bytes) else asked
        return value.encode() if asked.rstrip(".").lower() == name.rstrip(".").lower() else None

    signatures = []
    count = sum(1 for field, _ in dkim.rfc822_parse(message)[0] if field.lower() == b"dkim-signature")
    for index in range(count):
        verifier = dkim.DKIM(message)
        try:
            valid = verifier.verify(idx=index, dnsfunc=records)
            why = None
        except dkim.DKIMException as error:
            valid, why = False, str(error)
        fields = verifier.signature_fields
        signatures.append({
            "valid": bool(valid),
            "why": why,
            "domain": fields.get(b"d", b"").decode(),
            "selector": fields.get(b"s", b"").decode(),
            "algorithm": fields.get(b"a", b"").decode(),
            "headers": [h.strip().lower() for h in fields.get(b"h", b"").decode().split(":")],
        })
    json.dump({"signatures": signatures}, sys.stdout)


main()
