"""Submits one message with Python's smtplib and says what the server answered to each recipient and to the data.

Standard input: one JSON object
  {"host", "port", "security": "starttls" | "implicit" | "none", "username", "password", "sender", "recipients": [...],
   "message": file with the exact bytes, "smtputf8": false}
Standard output: one JSON object
  {"greeting", "login", "mail", "recipients": {address: reply}, "data"}, each reply as "250 text"; what was not reached is
  null. Ends with 0 whatever the server said; an exception is a fault of the conversation itself.
"""

import json
import smtplib
import ssl
import sys


def said(code, text):
    return f"{code} {text.decode('utf-8', 'replace')}"


def main():
    order = json.load(sys.stdin)
    tls = ssl.create_default_context()
    tls.check_hostname = False  # a certificate made at first start
    tls.verify_mode = ssl.CERT_NONE
    result = {"login": None, "mail": None, "recipients": {}, "data": None}
    with open(order["message"], "rb") as file:
        message = file.read()

    if order["security"] == "implicit":
        session = smtplib.SMTP_SSL(timeout=120, context=tls)
        session._host = order["host"]
    else:
        session = smtplib.SMTP(timeout=120)
        session._host = order["host"]
    result["greeting"] = said(*session.connect(order["host"], order["port"]))
    session.ehlo()
    if order["security"] == "starttls":
        session.starttls(context=tls)
        session.ehlo()
    try:
        if order.get("username"):
            result["login"] = said(*session.login(order["username"], order["password"]))
        options = [f"SIZE={len(message)}"]
        if any(byte > 127 for byte in message):
            options.append("BODY=8BITMIME")
        if order.get("smtputf8"):
            session.command_encoding = "utf-8"
            options.append("SMTPUTF8")
        code, text = session.mail(order["sender"], options)
        result["mail"] = said(code, text)
        if code == 250:
            accepted = 0
            for recipient in order["recipients"]:
                code, text = session.rcpt(recipient)
                result["recipients"][recipient] = said(code, text)
                accepted += code in (250, 251)
            if accepted:
                try:
                    result["data"] = said(*session.data(message))
                except smtplib.SMTPDataError as error:
                    result["data"] = said(error.smtp_code, error.smtp_error)
        session.quit()
    except smtplib.SMTPAuthenticationError as error:
        result["login"] = said(error.smtp_code, error.smtp_error)
    except smtplib.SMTPServerDisconnected as error:
        result["disconnected"] = str(error)
    json.dump(result, sys.stdout)


main()
