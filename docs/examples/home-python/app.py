"""Two webhooks of a WebhooksServer that has a page of its own: hubhook dev -- python app.py"""

import gradio as gr
from huggingface_hub import WebhooksServer

with gr.Blocks() as page:
    gr.Markdown("# My webhooks")
    gr.Markdown("They greet the repos of the Hub.")

app = WebhooksServer(ui=page)  # the secret is that of WEBHOOK_SECRET


@app.add_webhook("say_hello")  # POST /webhooks/say_hello
async def hello(payload: dict):
    return {"message": "hello " + payload["repo"]["name"]}


@app.add_webhook  # POST /webhooks/goodbye
async def goodbye(payload: dict):
    return {"message": "goodbye " + payload["repo"]["name"]}


if __name__ == "__main__":
    app.launch()
