GET /docs/page.js

