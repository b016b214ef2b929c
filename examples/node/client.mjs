// Start an agent, show what it does, ask before it acts, print its answer.
// All it knows of Podium comes from proto/podium/v1, read at run time; README.md says how.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const { PODIUM_ADDRESS = "127.0.0.1:7460", PODIUM_TOKEN, PODIUM_CA_FILE } = process.env;
const RECONNECTS_MAX = 20;
// Every command carries a request id and has one effect however often it is sent: gRPC itself may try again.
const RETRIES = {
  name: [{ service: "podium.v1.SessionService" }],
  retryPolicy: {
    maxAttempts: 5,
    initialBackoff: "0.2s",
    maxBackoff: "2s",
    backoffMultiplier: 2,
    retryableStatusCodes: ["UNAVAILABLE"],
  },
};

const contract = loadSync("podium/v1/session_service.proto", {
  includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))],
  defaults: true,
  enums: String,
  longs: String,
  oneofs: true,
});
const { SessionService } = grpc.loadPackageDefinition(contract).podium.v1;

const credentials = PODIUM_CA_FILE
  ? grpc.credentials.createSsl(readFileSync(PODIUM_CA_FILE))
  : grpc.credentials.createInsecure(); // loopback only
const sessions = new SessionService(PODIUM_ADDRESS, credentials, {
  "grpc.service_config": JSON.stringify({ methodConfig: [RETRIES] }),
});
const token = new grpc.Metadata();
token.set("authorization", `Bearer ${PODIUM_TOKEN}`);

const call = (method, request) =>
  promisify(sessions[method]).call(sessions, request, token, { deadline: Date.now() + 30_000 });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function main(prompt) {
  const created = await call("createSession", {
    requestId: randomUUID(),
    turn: { prompt: [{ text: { text: prompt } }] },
  });
  let answer = "";
  for await (const event of events(created.session.name)) {
    if (event.body === "message") {
      show(event.message);
      const texts = event.message.content.filter((block) => block.block === "text");
      if (event.message.role === "ROLE_ASSISTANT" && texts.length > 0) {
        answer = texts.map((block) => block.text.text).join("\n");
      }
    } else if (event.body === "approvalRequested") {
      await decide(created.session.name, event.approvalRequested);
    } else if (event.body === "turnEnded") {
      console.log(answer);
      return event.turnEnded.status === "TURN_STATUS_COMPLETED" ? 0 : 1;
    }
  }
  return 1;
}

// The session's events, each once: after a broken connection it goes on behind the last one seen.
async function* events(session) {
  let afterRevision = "0";
  for (let attempt = 0; attempt < RECONNECTS_MAX; attempt++) {
    const watch = sessions.watchSession({ session, afterRevision }, token);
    try {
      for await (const response of watch) {
        for (const event of response.events) {
          afterRevision = event.revision;
          yield event;
        }
      }
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error;
      await sleep(500);
    } finally {
      watch.cancel();
    }
  }
  throw new Error(`${PODIUM_ADDRESS} cannot be reached`);
}

// What was said and done.
function show(message) {
  for (const block of message.content) {
    if (block.block === "text") console.error(block.text.text);
    if (block.block === "toolUse") console.error(`-> ${block.toolUse.name} ${block.toolUse.inputJson}`);
    if (block.block === "toolResult") console.error(`<- ${block.toolResult.text}`);
  }
}

// Asks the person in front of the terminal; needs a token with the role `approve`.
async function decide(session, question) {
  process.stderr.write(`?? ${question.toolName} ${question.inputJson} [y/N] `);
  const { value = "" } = await lines.next();
  const yes = value.trim().toLowerCase() === "y";
  await call("resolveApproval", {
    requestId: randomUUID(),
    session,
    approvalId: question.approvalId,
    decision: yes ? "APPROVAL_DECISION_ALLOW" : "APPROVAL_DECISION_DENY",
  });
}

process.exit(await main(process.argv.slice(2).join(" ")));
