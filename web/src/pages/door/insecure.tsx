// Over plain HTTP from elsewhere the gateway takes no password; this leads to HTTPS and explains the warning that comes.
import type { Certificate } from "../../core/nouns";
import { t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Banner, Facts } from "../../ui/parts";

const HTTPS_PORT = 8448; // the default; who configured another one knows it

export function Insecure() {
  const { data } = useGet<Certificate>("/v1/certificate");
  const address = `https://${location.hostname}:${HTTPS_PORT}/${location.hash}`;
  return (
    <div class="stack">
      <Banner>{t("insecure.why")}</Banner>
      <a class="button primary" href={address}>
        {t("insecure.go")}
      </a>
      <p class="soft small">{t("insecure.warning")}</p>
      {data && <Facts rows={[[t("certificate.fingerprint"), <code key="f">{data.fingerprint}</code>]]} />}
    </div>
  );
}
