// Signs each line of standard input as a body, with Stripe's own SDK, and sends it to ingest.
// Prints one line of JSON for each: the header, the status and the answer.
const { createInterface } = require("node:readline");
const Stripe = require("stripe");

async function main([url, secret]) {
  const { webhooks } = new Stripe("sk_test_not_used");
  for await (const payload of createInterface({ input: process.stdin })) {
    const header = webhooks.generateTestHeaderString({ payload, secret });
    const answer = await fetch(url, {
      method: "POST",
      headers: { "stripe-signature": header, "content-type": "application/json; charset=utf-8" },
      body: payload,
    });
    console.log(JSON.stringify({ header, status: answer.status, answer: await answer.json() }));
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
