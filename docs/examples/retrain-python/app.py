"""Trains a model again when data files of a dataset change: a Job on the Hub, and a comment on the pull request that brought the change.

hubhook stands in front, with hubhook.yaml: it checks the secret and the files, and tries again what fails.
"""

import itertools
import re

import uvicorn
from fastapi import FastAPI
from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

# A training finds the dataset in DATASET, the commit in REVISION, and the token in HF_TOKEN.
TRAINING = {
    "image": "ghcr.io/astral-sh/uv:python3.12-bookworm",
    "command": ["uv", "run", "https://huggingface.co/me/model/resolve/main/train.py"],
    "flavor": "t4-small",
    "timeout": "6h",
}

api = HfApi()
me = api.whoami()["name"]  # the Jobs and the comments are this user's
app = FastAPI()


@app.post("/retrain")
def retrain(payload: dict):
    """May run more than once for a delivery, after a crash for example. So each step looks first whether it was done."""
    dataset = payload["repo"]["name"]
    push = next(ref for ref in payload["updatedRefs"] if ref["ref"] == "refs/heads/main")
    job = train(dataset, push["newSha"])
    for commit in new_commits(dataset, push):
        tell(dataset, commit, job)
    return {"job": job.url}


def train(dataset, revision):
    """Starts a Job, unless there is one for this commit."""
    labels = {"retrain": revision}
    for job in api.list_jobs(labels=labels):
        return job
    variables = {"DATASET": dataset, "REVISION": revision}
    return api.run_job(env=variables, secrets={"HF_TOKEN": get_token()}, labels=labels, **TRAINING)


def tell(dataset, commit, job):
    """Comments on the pull request that a commit merged, if it merged one."""
    # The Hub ends the title of such a commit with the number.
    number = re.search(r"\(#(\d+)\)$", commit["title"])
    if not number:
        return
    try:
        pull = api.get_discussion_details(dataset, int(number[1]), repo_type="dataset")
    except HfHubHTTPError as error:
        if error.response.status_code == 404:
            return
        raise
    told = any(e.type == "comment" and e.author == me and job.url in e.content for e in pull.events)
    # Anyone can write a number into a title, so the pull request has to name the commit.
    if pull.merge_commit_oid == commit["id"] and not told:
        text = f"Thank you. [A training]({job.url}) on the new data has started."
        api.comment_discussion(dataset, pull.num, text, repo_type="dataset")


def new_commits(dataset, push):
    """Reads the latest commits of a push, 50 at most. list_repo_commits would read the whole history."""
    address = f"{api.endpoint}/api/datasets/{dataset}/commits/{push['newSha']}"
    page = get_session().get(address, headers=build_hf_headers())
    hf_raise_for_status(page)
    return itertools.takewhile(lambda commit: commit["id"] != push["oldSha"], page.json())


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
