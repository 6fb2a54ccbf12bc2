"""Serves one endpoint of huggingface_hub's WebhooksServer, written as its guide has it, for hubhook to be compared with.

The arguments are the host, the port and the webhook's secret. It serves until it is interrupted.
"""

import sys

from huggingface_hub import WebhookPayload, WebhooksServer

host, port, secret = sys.argv[1:]
app = WebhooksServer(webhook_secret=secret)


@app.add_webhook("/inbox")
async def inbox(payload: WebhookPayload):
    if payload.event.scope != "repo.content" or not payload.updatedRefs:
        raise ValueError("not a push")
    return {}


app.launch(share=False, server_name=host, server_port=int(port))
