"""A webhook listener in FastAPI, as courses have it: one POST route, and the secret checked by hand."""

import os

import uvicorn
from fastapi import BackgroundTasks, FastAPI, Header, HTTPException, Request

app = FastAPI()


@app.get("/")
async def health():
    return {"status": "ok"}


@app.post("/webhook")
async def webhook(request: Request, background: BackgroundTasks, x_webhook_secret: str = Header(None)):
    if x_webhook_secret != os.environ.get("WEBHOOK_SECRET"):
        raise HTTPException(403, "wrong secret")
    payload = await request.json()
    # In one write: a task runs in a thread of its own, and the server logs requests at the same time.
    background.add_task(print, " ".join(["tagging", payload["repo"]["name"]]) + "\n", end="", flush=True)
    return {"status": "accepted"}


if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", 8000)))
