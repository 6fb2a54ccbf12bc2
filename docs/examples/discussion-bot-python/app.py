"""Answers whoever mentions it in a discussion or a pull request on the Hub, with the files of the repo: hubhook dev -- python app.py"""

import itertools
import re

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from huggingface_hub import HfApi, WebhooksServer
from huggingface_hub.hf_api import RepoFile

api = HfApi()
me = api.whoami()  # the bot's account, by its token
mention = re.compile(rf"(^|[^\w@/])@{re.escape(me['name'])}($|[^\w-])", re.IGNORECASE)
app = WebhooksServer()  # checks the secret in WEBHOOK_SECRET


@app.add_webhook
async def answer(request: Request):
    """Answers new comments. It takes the request: WebhooksServer's own model of payloads refuses some that the Hub sends."""
    payload = await request.json()
    why = declined(payload)
    if why:
        return {"skipped": why}
    # In a thread, for the calls of the Hub would keep the server from all else.
    return await run_in_threadpool(reply, payload)


def declined(payload):
    """Says why a delivery gets no answer."""
    event, comment = payload["event"], payload.get("comment") or {}
    if event["scope"] not in ("discussion", "discussion.comment") or event["action"] != "create" or not comment.get("content"):
        return "it is no new comment"
    # An answer is a new comment, too: one that the bot answers would be the first of an endless talk with itself.
    if comment["author"]["id"] == me["id"]:
        return "it is the bot's own comment"
    if not mention.search(comment["content"]):
        return f"it does not mention @{me['name']}"
    return None


def reply(payload):
    """May run more than once for a delivery, after a crash for example. So it looks first whether the answer is there."""
    repo, num = payload["repo"], payload["discussion"]["num"]
    question = payload["comment"]["url"]["web"]
    discussion = api.get_discussion_details(repo["name"], num, repo_type=repo["type"])
    if any(e.type == "comment" and e.author == me["name"] and question in e.content for e in discussion.events):
        return {}
    text = f"To [your question]({question}) to @{me['name']}: {files(repo, discussion.git_reference or 'main')}"
    comment = api.comment_discussion(repo["name"], num, text, repo_type=repo["type"])
    return {"comment": comment.id}


def files(repo, revision):
    """What the bot knows. It lists the first files in a block of code, since strangers choose their names. A model could be asked here."""
    most = 20
    tree = api.list_repo_tree(repo["name"], recursive=True, revision=revision, repo_type=repo["type"])
    first = list(itertools.islice((f for f in tree if isinstance(f, RepoFile)), most + 1))
    lines = [f"    {f.path} ({f.size} bytes)\n" for f in first[:most]]
    more = "\nand more." if len(first) > most else ""
    return f"the files of {revision} are\n\n{''.join(lines)}{more}"


if __name__ == "__main__":
    app.launch()
