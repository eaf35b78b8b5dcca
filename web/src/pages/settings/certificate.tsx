// The certificate that the gateway shows, its fingerprint as a QR code, and the file for clients.
import { moment } from "../../core/format";
import type { Certificate } from "../../core/nouns";
import { language, t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Button, Card, Copy, Facts } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Qr } from "../../ui/qr";

export function CertificateView() {
  const { data: c, error, again } = useGet<Certificate>("/v1/certificate");
  return (
    <Card title={t("settings.certificate")}>
      <Trouble error={error} again={again} />
      {c && (
        <>
          <div class="row">
            <Qr text={c.fingerprint} label={t("certificate.qr")} />
            <div class="grow stack tight">
              <h3>{t("certificate.fingerprint")}</h3>
              <div class="row">
                <code class="break">{c.fingerprint}</code>
                <Copy text={c.fingerprint} />
              </div>
              <p class="soft small">{t("certificate.compare")}</p>
            </div>
          </div>
          <Facts
            rows={[
              [t("certificate.source"), c.source === "self-signed" ? t("certificate.self") : c.source],
              [t("certificate.names"), c.names.join(", ")],
              [t("certificate.from"), moment(c.not_before, language.value, new Date())],
              [t("credentials.until"), moment(c.not_after, language.value, new Date())],
            ]}
          />
          <div class="row">
            <Button onClick={() => save("gateway.pem", c.pem)}>{t("certificate.save")}</Button>
            <Copy text={c.pem} word={t("certificate.copy")} />
          </div>
        </>
      )}
    </Card>
  );
}

/** save hands a file to the person. */
export function save(name: string, content: BlobPart): void {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([content]));
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10_000);
}
