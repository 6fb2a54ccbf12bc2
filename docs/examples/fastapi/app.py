"""Four webhooks in FastAPI: hubhook dev -- python app.py"""

import os
import secrets
from typing import Annotated

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException

SECRET = os.environ.get("WEBHOOK_SECRET", "")


def check_secret(x_webhook_secret: Annotated[str | None, Header()] = None):
    """hubhook checks the secret, too. This is for a day without hubhook in front."""
    if SECRET and x_webhook_secret is None:
        raise HTTPException(401, "no secret was sent")
    if SECRET and not secrets.compare_digest(x_webhook_secret.encode(), SECRET.encode()):
        raise HTTPException(403, "the secret is wrong")


webhooks = APIRouter(prefix="/webhooks", dependencies=[Depends(check_secret)])


# Handlers take a dict, not a model of the payload: the Hub adds scopes, repo types and fields without notice, and a model refuses them with 422.


@webhooks.post("/trigger_training")
async def trigger_training(payload: dict):
    """Starts a training when somebody pushes to the main branch of a dataset."""
    repo, refs = payload["repo"], [r["ref"] for r in payload.get("updatedRefs") or []]
    if repo["type"] != "dataset" or payload["event"] != {"scope": "repo.content", "action": "update"} or "refs/heads/main" not in refs:
        return {}
    print(f"training on {repo['name']} at {repo.get('headSha')}")
    return {"training_on": repo.get("headSha")}


@webhooks.post("/trigger_evaluation")
async def trigger_evaluation(payload: dict):
    """Evaluates a model that has changed. An error is a failed attempt, which hubhook makes again."""
    event, repo = payload["event"], payload["repo"]
    if repo["type"] != "model" or event["scope"].split(".")[0] != "repo" or event["action"] == "delete":
        return {}
    if not repo.get("headSha"):
        raise HTTPException(500, "the payload has no headSha")
    print(f"evaluating {repo['name']} at {repo['headSha']}")
    return {"evaluating": repo["headSha"]}


@webhooks.post("/say_hello")
async def say_hello(payload: dict, webhook_id: Annotated[str | None, Header()] = None):
    """Greets every repo from which something comes."""
    print(f"hello from {webhook_id}")
    return {"message": "hello " + payload["repo"]["name"]}


@webhooks.post("/goodbye")
async def goodbye(payload: dict):
    """Takes leave of what is deleted."""
    event, name = payload["event"], payload["repo"]["name"]
    if event == {"scope": "repo", "action": "delete"}:
        print(f"goodbye {name}")
        return {"message": "goodbye " + name}
    if event == {"scope": "discussion", "action": "delete"}:
        print(f"goodbye discussion {payload['discussion']['num']} of {name}")
    return {}


app = FastAPI()
app.include_router(webhooks)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", 8000)))
