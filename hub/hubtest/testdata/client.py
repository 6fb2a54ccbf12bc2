"""Runs huggingface_hub for a test: evaluates each line of standard input and prints the value, or the error, as a line of JSON."""

import contextlib
import dataclasses
import io
import json
import queue
import sys

from huggingface_hub import HfApi, _bucket_live_follow
from huggingface_hub.cli.hf import main

answers, sys.stdout = sys.stdout, sys.stderr
api = HfApi()

# The waits of the follower between two streams, in seconds: its own are 1 and 10.
_bucket_live_follow.RECONNECT_MIN_DELAY = 0.01
_bucket_live_follow.RETRY_BASE_DELAY = 0.01


def hf(*arguments):
    """Runs the command hf. Returns its exit status and what it prints."""
    printed, status = io.StringIO(), 0
    sys.argv = ["hf", *arguments]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main()
        except SystemExit as e:
            status = e.code or 0
    return {"status": status, "printed": printed.getvalue()}


class Follow:
    """Follows a bucket and keeps what it is told."""

    def __init__(self, bucket):
        self.seen = queue.Queue()
        self.follower = _bucket_live_follow.BucketFollower(
            endpoint=api.endpoint,
            bucket_id=bucket,
            on_changes=lambda changes: self.seen.put([f"{c.op}:{c.path}" for c in changes]),
            on_reconcile=lambda: self.seen.put("reconcile"),
            is_alive=lambda: True,
        )
        self.follower.start()

    def next(self):
        return self.seen.get(timeout=60)

    def stop(self):
        """Asks the follower to stop. It stops when its stream sends something or ends."""
        self.follower.stop()

    def ended(self):
        self.follower.join(timeout=60)
        return not self.follower.is_alive()


def plain(value):
    if dataclasses.is_dataclass(value):
        return vars(value)
    return str(value)


names = {"api": api, "hf": hf, "Follow": Follow, "kept": {}}
for line in sys.stdin:
    try:
        answer = {"value": eval(line, names)}
    except Exception as e:
        answer = {"error": type(e).__name__, "text": str(e)}
    print(json.dumps(answer, default=plain), file=answers, flush=True)
