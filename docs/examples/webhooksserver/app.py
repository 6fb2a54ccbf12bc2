"""Four webhooks with huggingface_hub's WebhooksServer: hubhook dev -- python app.py

The handlers take the request and read its JSON. With a WebhookPayload as their parameter, as the guide has it, WebhooksServer would answer 422 to
buckets and kernels, which its model does not know, and repo.head_sha would always be None.
"""

from fastapi import HTTPException, Request
from huggingface_hub import WebhooksServer

app = WebhooksServer()  # checks the secret in WEBHOOK_SECRET


@app.add_webhook
async def trigger_training(request: Request):
    """Starts a training when somebody pushes to the main branch of a dataset."""
    payload = await request.json()
    event, repo = payload["event"], payload["repo"]
    refs = [r["ref"] for r in payload.get("updatedRefs") or []]
    if repo["type"] != "dataset" or event != {"scope": "repo.content", "action": "update"} or "refs/heads/main" not in refs:
        return {}
    print("training on", repo["name"], "at", repo.get("headSha"))
    return {"training_on": repo.get("headSha")}


@app.add_webhook
async def trigger_evaluation(request: Request):
    """Evaluates a model that has changed. An error is a failed attempt, which hubhook makes again."""
    payload = await request.json()
    event, repo = payload["event"], payload["repo"]
    if repo["type"] != "model" or event["scope"].split(".")[0] != "repo" or event["action"] == "delete":
        return {}
    if not repo.get("headSha"):
        raise HTTPException(500, "the payload has no headSha")
    print("evaluating", repo["name"], "at", repo["headSha"])
    return {"evaluating": repo["headSha"]}


@app.add_webhook("say_hello")
async def hello(request: Request):
    """Greets every repo from which something comes."""
    payload = await request.json()
    print("hello from", request.headers.get("webhook-id"))
    return {"message": "hello " + payload["repo"]["name"]}


@app.add_webhook("goodbye")
async def goodbye(request: Request):
    """Takes leave of what is deleted."""
    payload = await request.json()
    event, name = payload["event"], payload["repo"]["name"]
    if event == {"scope": "repo", "action": "delete"}:
        print("goodbye", name)
        return {"message": "goodbye " + name}
    if event == {"scope": "discussion", "action": "delete"}:
        print("goodbye discussion", payload["discussion"]["num"], "of", name)
    return {}


if __name__ == "__main__":
    app.launch()
