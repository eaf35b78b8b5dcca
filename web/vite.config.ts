import { readdirSync, rmSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

// What the gateway embeds is dist/: every file gzip-compressed, and nothing else but unbuilt.html, which is committed so
// that the Go package builds before anybody ran this.
function packed(): Plugin {
  return {
    name: "packed",
    apply: "build",
    enforce: "post",
    buildStart() {
      for (const name of readdirSync("dist")) {
        if (name !== "unbuilt.html") rmSync(`dist/${name}`, { recursive: true });
      }
    },
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        for (const [name, part] of Object.entries(bundle)) {
          const source = part.type === "chunk" ? part.code : part.source;
          delete bundle[name];
          this.emitFile({ type: "asset", fileName: `${name}.gz`, source: gzipSync(source, { level: 9 }) });
        }
      },
    },
  };
}

export default defineConfig({
  base: "./",
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    outDir: "dist",
    emptyOutDir: false,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // data: addresses of our own would need a looser policy
    cssCodeSplit: false,
    reportCompressedSize: false,
  },
  plugins: [packed()],
  server: { proxy: { "/v1": "http://localhost:8088", "/glance.json": "http://localhost:8088" } },
  test: { include: ["test/**/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
