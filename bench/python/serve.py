"""Answers the benchmark's requests, one JSON object a line (bench/PROTOCOL.md)."""

import json
import sys

# Lines on standard output are replies; whatever else prints goes to standard error.
replies = sys.stdout
sys.stdout = sys.stderr


def serve(session):
    """Calls the method of `session` that each request names, until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"ok": True, **getattr(session, request["op"])(request)}
        except Exception as error:  # reported, and the next request may still be answered
            reply = {"ok": False, "code": "ERR_BENCH_FAILED", "message": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": request["id"], **reply}), file=replies, flush=True)
