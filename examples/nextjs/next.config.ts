import { fileURLToPath } from "node:url";

import type { NextConfig } from "next";

const config: NextConfig = {
  // Here, whatever lock files there are in folders above.
  turbopack: { root: fileURLToPath(new URL(".", import.meta.url)) },
  poweredByHeader: false,
};

export default config;
