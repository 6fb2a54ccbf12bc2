"""The first example of huggingface_hub's guide, word for word: it ends at once on Python 3.11."""

from huggingface_hub import webhook_endpoint, WebhookPayload


@webhook_endpoint
async def trigger_training(payload: WebhookPayload) -> None:
    if payload.repo.type == "dataset" and payload.event.action == "update":
        # Trigger a training job if a dataset is updated
        ...
