# Seals or opens one payload as compact JWE with python3-jwcrypto:
#
#   python3 seal.py seal|open KEYFILE TOPIC < INPUT > OUTPUT
import json
import sys

from jwcrypto import jwe, jwk

what, file, topic = sys.argv[1:]
with open(file) as f:
    key = jwk.JWK.from_json(f.read())
given = sys.stdin.buffer.read()
if what == "seal":
    header = {"alg": "dir", "enc": "A256GCM", "kid": key["kid"], "topic": topic}
    token = jwe.JWE(given, json.dumps(header))
    token.add_recipient(key)
    sys.stdout.write(token.serialize(compact=True))
else:
    token = jwe.JWE(algs=["dir", "A256GCM"])
    token.deserialize(given.decode(), key)
    if token.jose_header["topic"] != topic:
        sys.exit("sealed for " + token.jose_header["topic"])
    sys.stdout.buffer.write(token.payload)
