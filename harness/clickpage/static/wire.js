// Talks to the server: every action is answered by lines of JSON, the state first, then each variant's answer.

async function* lines(response) {
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const parts = rest.split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
    if (done) return;
  }
}

export class Wire {
  // on.state(state), on.answer(answer), on.trouble(text)
  constructor(on) {
    this.on = on;
    this.revision = 0;
    this.queue = Promise.resolve();
  }

  // One action after the other: each needs the revision that the one before led to, but not its answers.
  send(action, body = {}) {
    this.queue = this.queue.then(() => this.#ask(`/api/${action}`, () => ({
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ revision: this.revision, ...body }),
    })));
    return this.queue;
  }

  look() {
    this.queue = this.queue.then(() => this.#ask("/api/look", () => ({})));
    return this.queue;
  }

  async truth() {
    const response = await fetch(`/api/truth?revision=${this.revision}`);
    return response.ok ? response.json() : null;
  }

  // Resolves when the state is there; answers come later.
  #ask(address, options) {
    return new Promise((resolve) => {
      this.#read(address, options(), resolve).catch(() => {
        this.on.trouble("The server does not answer. Is python -m harness.click still running? Recorded clicks are safe.");
      }).finally(resolve);
    });
  }

  async #read(address, options, ready) {
    const response = await fetch(address, options);
    if (!response.ok) {
      const text = response.headers.get("content-type") === "application/json" ? (await response.json()).error : await response.text();
      this.on.trouble(text);
      if (response.status === 409) await this.#read("/api/look", {}, ready);
      return;
    }
    if (address !== "/api/look") this.on.trouble("");
    for await (const line of lines(response)) {
      if (line.state) {
        this.revision = line.state.revision;
        this.on.state(line.state);
        ready();
      } else if (line.answer.revision === this.revision) {
        this.on.answer(line.answer);
      }
    }
  }
}
