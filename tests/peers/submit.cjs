// Submits one message with nodemailer. Standard input: one JSON object
//   {"host", "port", "security": "starttls" | "implicit", "username", "password", "sender", "recipients": [...],
//    "message": file with the exact bytes}
// Standard output: {"accepted": [...], "rejected": [...], "data": reply to the end of the data} or {"error"}.
// NODE_PATH names the folder that holds nodemailer.
"use strict";

const fs = require("fs");
const nodemailer = require("nodemailer");

const order = JSON.parse(fs.readFileSync(0, "utf8"));
const transport = nodemailer.createTransport({
  host: order.host,
  port: order.port,
  secure: order.security === "implicit",
  requireTLS: order.security === "starttls",
  auth: { user: order.username, pass: order.password },
  tls: { rejectUnauthorized: false }, // a certificate made at first start
});
transport
  .sendMail({
    envelope: { from: order.sender, to: order.recipients },
    raw: fs.readFileSync(order.message),
  })
  .then((info) => ({ accepted: info.accepted, rejected: info.rejected, data: info.response }))
  .catch((error) => ({ error: String(error), data: error.response || null }))
  .then((result) => {
    process.stdout.write(JSON.stringify(result));
    transport.close();
  });
