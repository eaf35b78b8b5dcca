// What ails an upstream, in the page's language: the causes that all connectors share. The gateway's own words, which
// name host and file, stand below it.
import { maybe } from "../../core/words";

const known: [RegExp, string][] = [
  [/up\.schedule/, "reason.bridge-schedule"],
  [/up\.daily_budget/, "reason.bridge-budget"],
  [/connection refused|nothing listens there/, "reason.bridge-refused"],
  [/no such host|look at the host in urls/, "reason.bridge-host"],
  [/unknown authority|name the authority with ca_file/, "reason.bridge-authority"],
  [/write the name in the certificate into urls/, "reason.bridge-name"],
  [/look at the upstream's certificate and at this gateway's clock/, "reason.bridge-certificate"],
  [/the port does not speak TLS/, "reason.bridge-plain"],
  [/refuses the TLS connection/, "reason.bridge-client-certificate"],
  [/refuses user|username, password_file or token_file/, "reason.bridge-password"],
  [/look at its access rules|access rules forbid it/, "reason.bridge-rules"],
  [/create it, or look at/, "reason.bridge-missing"],
  [/with or without TLS as the scheme says/, "reason.bridge-protocol"],
  [/no such file|permission denied/, "reason.bridge-file"],
  [/cannot be stored, so it is not acknowledged/, "reason.bridge-storage"],
  [/no answer from|i\/o timeout|deadline exceeded/, "reason.bridge-silent"],
  [/EOF|connection reset|broken pipe|closed network connection/, "reason.bridge-broke"],
];

/** cause is undefined for what only the gateway's own words say. */
export function cause(text: string): string | undefined {
  const found = known.find(([pattern]) => pattern.test(text));
  return found && maybe(found[1]);
}
