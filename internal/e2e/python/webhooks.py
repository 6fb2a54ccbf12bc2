"""An unchanged program for a Space: huggingface_hub's WebhooksServer, as its guide has it."""

import gradio  # noqa: F401  not while the interpreter exits, which Python 3.11 refuses

from huggingface_hub import WebhookPayload, webhook_endpoint


@webhook_endpoint
async def trigger_training(payload: WebhookPayload) -> None:
    if payload.repo.type == "dataset" and payload.event.action == "update":
        # In one write: another thread prints the endpoints at the same time.
        print(" ".join(["training", payload.repo.name, str(payload.repo.head_sha)]) + "\n", end="", flush=True)


@webhook_endpoint("/webhooks/doubled")
async def doubled(payload: WebhookPayload):
    return {"error": "no such dataset"}, 400
