"""Four webhooks with huggingface_hub's WebhooksServer: hubhook dev -- python app.py

The handlers take the payload as a dict. With a WebhookPayload as their parameter, as the guide has it, WebhooksServer would answer 422 to buckets
and kernels, which its model does not know, and repo.head_sha would always be None.
"""

from fastapi import HTTPException, Request
from huggingface_hub import WebhooksServer

app = WebhooksServer()  # checks the secret in WEBHOOK_SECRET


def say(text):
    """Prints a line in one write: the server prints in another thread."""
    print(text + "\n", end="", flush=True)


@app.add_webhook
async def trigger_training(payload: dict):
    """Starts a training when somebody pushes to the main branch of a dataset."""
    repo, refs = payload["repo"], [r["ref"] for r in payload.get("updatedRefs") or []]
    if repo["type"] != "dataset" or payload["event"] != {"scope": "repo.content", "action": "update"} or "refs/heads/main" not in refs:
        return {}
    say(f"training on {repo['name']} at {repo.get('headSha')}")
    return {"training_on": repo.get("headSha")}


@app.add_webhook
async def trigger_evaluation(payload: dict):
    """Evaluates a model that has changed. An error is a failed attempt, which hubhook makes again."""
    event, repo = payload["event"], payload["repo"]
    if repo["type"] != "model" or event["scope"].split(".")[0] != "repo" or event["action"] == "delete":
        return {}
    if not repo.get("headSha"):
        raise HTTPException(500, "the payload has no headSha")
    say(f"evaluating {repo['name']} at {repo['headSha']}")
    return {"evaluating": repo["headSha"]}


@app.add_webhook("say_hello")
async def hello(payload: dict, request: Request):
    """Greets every repo from which something comes."""
    say(f"hello from {request.headers.get('webhook-id')}")
    return {"message": "hello " + payload["repo"]["name"]}


@app.add_webhook("goodbye")
async def goodbye(payload: dict):
    """Takes leave of what is deleted."""
    event, name = payload["event"], payload["repo"]["name"]
    if event == {"scope": "repo", "action": "delete"}:
        say(f"goodbye {name}")
        return {"message": "goodbye " + name}
    if event == {"scope": "discussion", "action": "delete"}:
        say(f"goodbye discussion {payload['discussion']['num']} of {name}")
    return {}


if __name__ == "__main__":
    app.launch()
