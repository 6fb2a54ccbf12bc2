"""Train on the dataset that the webhook's payload names. hubhook gives the payload on standard input."""

import json
import sys

payload = json.load(sys.stdin)
repo = payload["repo"]
if not repo.get("headSha"):
    sys.exit("the payload names no commit")  # a failed attempt
print(f"training on {repo['name']} at {repo['headSha']}", flush=True)
# Load the dataset at that commit, with revision=repo["headSha"], and train here.
