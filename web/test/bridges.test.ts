import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { language } from "../src/core/words";
import { cause } from "../src/pages/bridges/cause";
import { examples, names } from "../src/pages/bridges/toml";

describe("bridges", () => {
  test("what the gateway says about an upstream is said in the page's language", () => {
    const said: [string, RegExp][] = [
      ["dial tcp 127.0.0.1:1: connect: connection refused; nothing listens there: is …", /Nothing listens/],
      ["lookup broker.example: no such host; look at the host in urls, and at the gateway's DNS", /not found/],
      ["x509: certificate signed by unknown authority; name the authority with ca_file", /ca_file/],
      [
        'the broker refuses user "gw": not Authorized; look at username, password_file or token_file',
        /user or password/,
      ],
      ["NOT_FOUND - no queue 'q'; create it, or look at up.to and down.from", /not there/],
      [
        "the broker ends the connection at its start: EOF; is it STOMP there, with or without TLS as the scheme says?",
        /hangs up/,
      ],
      ["password_file: open /nowhere: no such file or directory", /missing/],
      ["no answer from broker.example within 30s: context deadline exceeded", /in time/],
      ["EOF", /broke/],
    ];
    for (const [text, words] of said) expect(cause(text), text).toMatch(words);
    language.value = "zh";
    for (const [text] of said) expect(cause(text), text).toMatch(/[\u4e00-\u9fff]/);
    language.value = "en";
    expect(cause("the server answered 422 Unprocessable")).toBeUndefined();
  });

  test("the causes are what the gateway's source says", () => {
    const source = readFileSync("../appliance/bridge/errors.go", "utf8");
    for (const part of source.matchAll(/"%w; ([^"]+)"/g)) expect(cause(part[1]!), part[1]).toBeDefined();
  });

  test("each example is a bridge of its kind, in about ten lines, with this gateway's name", () => {
    for (const [kind, text] of examples("ep-1")) {
      expect(names[kind]).toBeDefined();
      expect(text).toContain(`kind = "${kind}"`);
      expect(text.trimEnd().split("\n").length).toBeLessThanOrEqual(13);
      expect(text).not.toContain("undefined");
    }
  });
});
