"""A webhook in Flask that has never heard of PORT."""

from flask import Flask, request

app = Flask(__name__)


@app.post("/hook")
def hook():
    payload = request.get_json()
    # In one write: another thread logs requests at the same time.
    print(" ".join(["got", payload["event"]["scope"], payload["repo"]["name"]]) + "\n", end="", flush=True)
    return {"ok": True}


if __name__ == "__main__":
    app.run(port=5000)
