"""A program for huggingface_hub's WebhooksServer, as it runs under hubhook dev: hubhook dev -- python app.py"""

import gradio  # noqa: F401  imported while the program starts; at its exit that is too late
from huggingface_hub import WebhookPayload, webhook_endpoint


@webhook_endpoint
async def trigger_training(payload: WebhookPayload):
    if payload.repo.type != "dataset" or payload.event.action != "update":
        return {"skipped": True}
    print(f"train on {payload.repo.name} at {payload.repo.head_sha}", flush=True)
    return {"training": payload.repo.name}


@webhook_endpoint("/webhooks/mirror")
async def mirror(payload: WebhookPayload):
    if payload.repo.private:
        return {"error": "private"}, 400
    return {"mirrored": payload.repo.name}
