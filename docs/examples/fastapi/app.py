"""Four webhooks in FastAPI: hubhook dev -- python app.py"""

import os
import secrets

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request

SECRET = os.environ.get("WEBHOOK_SECRET", "")


def check_secret(request: Request):
    """hubhook checks the secret, too. This is for a day without hubhook in front."""
    given = request.headers.get("x-webhook-secret")
    if SECRET and given is None:
        raise HTTPException(401, "no secret was sent")
    if SECRET and not secrets.compare_digest(given.encode(), SECRET.encode()):
        raise HTTPException(403, "the secret is wrong")


webhooks = APIRouter(prefix="/webhooks", dependencies=[Depends(check_secret)])


# Handlers take the request, not a model of the payload: the Hub adds scopes, repo types and fields without notice, and a model refuses them with 422.


@webhooks.post("/trigger_training")
async def trigger_training(request: Request):
    """Starts a training when somebody pushes to the main branch of a dataset."""
    payload = await request.json()
    event, repo = payload["event"], payload["repo"]
    refs = [r["ref"] for r in payload.get("updatedRefs") or []]
    if repo["type"] != "dataset" or event["scope"] != "repo.content" or event["action"] != "update" or "refs/heads/main" not in refs:
        return {}
    print("training on", repo["name"], "at", repo.get("headSha"))
    return {"training_on": repo.get("headSha")}


@webhooks.post("/trigger_evaluation")
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


@webhooks.post("/say_hello")
async def say_hello(request: Request):
    """Greets every repo from which something comes."""
    payload = await request.json()
    print("hello from", request.headers.get("webhook-id"))
    return {"message": "hello " + payload["repo"]["name"]}


@webhooks.post("/goodbye")
async def goodbye(request: Request):
    """Takes leave of what is deleted."""
    payload = await request.json()
    event, name = payload["event"], payload["repo"]["name"]
    if event["scope"] == "repo" and event["action"] == "delete":
        print("goodbye", name)
        return {"message": "goodbye " + name}
    if event["scope"] == "discussion" and event["action"] == "delete":
        print("goodbye discussion", payload["discussion"]["num"], "of", name)
    return {}


app = FastAPI()
app.include_router(webhooks)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", 8000)))
