"""An unchanged program for a Space: huggingface_hub's WebhooksServer, as its guide has it."""

import gradio  # noqa: F401  not while the interpreter exits, which Python 3.11 refuses

from huggingface_hub import WebhookPayload, webhook_endpoint


@webhook_endpoint
async def trigger_training(payload: WebhookPayload) -> None:
    if payload.repo.type == "dataset" and payload.event.action == "update":
        print("training", payload.repo.name, payload.repo.head_sha, flush=True)


@webhook_endpoint("/webhooks/doubled")
async def doubled(payload: WebhookPayload):
    return {"error": "no such dataset"}, 400
