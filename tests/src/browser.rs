//! A real browser without a screen: Debian's Chromium, driven over its own pipe.
//!
//! The protocol is Chrome's `DevTools` one, JSON texts that end with a zero byte
//! (`--remote-debugging-pipe`).

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long a browser may take for anything, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The browser reads commands at 3 and writes to 4. Its wrapper's own output is
/// no part of the protocol.
const PIPES: &str = "exec 3<&0 4>&1 </dev/null >/dev/null 2>&1; exec chromium \"$@\"";

/// One browser with one page. Ends when dropped.
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    sent: u64,
    /// The page's, once there is one.
    session: Option<String>,
    complaints: Vec<String>,
    _profile: TempDir,
}

/// What a person's system asks pages for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A picture of a page.
pub struct Picture {
    /// As a file has it.
    pub png: Vec<u8>,
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// The colour at a point: red, green, blue.
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 4 * (y * self.width + x);
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}

impl Browser {
    /// Starts one, with an empty page of that many pixels.
    ///
    /// # Panics
    /// If there is none, or it does not start.
    pub async fn start(width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new("sh")
            .args(["-c", PIPES, "sh", "--headless", "--no-sandbox"])
            .args(["--remote-debugging-pipe", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-dev-shm-usage"])
            .args(["--hide-scrollbars", "--force-color-profile=srgb"])
            .args(["--lang=en-US", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("TZ", "UTC")
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("there is a shell");
        let commands = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut browser = Self {
            process,
            commands,
            answers,
            sent: 0,
            session: None,
            complaints: Vec::new(),
            _profile: profile,
        };
        browser.open(width, height).await;
        browser
    }

    async fn open(&mut self, width: u32, height: u32) {
        let target = self
            .call("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", attach).await;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(domain, json!({})).await;
        }
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Goes to an address. Does not wait for what the page does there.
    pub async fn go(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({"url": url})).await;
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.until("document.body !== null").await;
    }

    /// Has the system ask for light or dark pages.
    pub async fn prefer(&mut self, scheme: Scheme) {
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// What an expression of JavaScript is in the page; promises are awaited.
    ///
    /// # Panics
    /// If it throws.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let mut answer = self
            .call(
                "Runtime.evaluate",
                json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
            )
            .await;
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it does not become so.
    pub async fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.evaluate(expression).await != Value::Bool(true) {
            if Instant::now() > deadline {
                let page = self.evaluate("document.body.innerText").await;
                panic!("never: {expression}\n{page:#}\n{:?}", self.complaints);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses and releases a key; one of a single letter types it.
    pub async fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "text": text});
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// A picture of what is to be seen now.
    pub async fn picture(&mut self) -> Picture {
        let shot = self
            .call("Page.captureScreenshot", json!({"format": "png"}))
            .await;
        let data = shot["data"].as_str().expect("a picture").to_owned();
        // The browser reads its own file again; a page may show data.
        let decode = format!(
            "(async () => {{
               const image = new Image();
               image.src = 'data:image/png;base64,{data}';
               await image.decode();
               const canvas = new OffscreenCanvas(image.width, image.height);
               const drawn = canvas.getContext('2d');
               drawn.drawImage(image, 0, 0);
               const bytes = drawn.getImageData(0, 0, image.width, image.height).data;
               let text = '';
               for (let at = 0; at < bytes.length; at += 8192)
                 text += String.fromCharCode(...bytes.subarray(at, at + 8192));
               return [image.width, btoa(text)];
             }})()"
        );
        let decoded = self.evaluate(&decode).await;
        let width = decoded[0].as_u64().and_then(|it| it.try_into().ok());
        let pixels = decoded[1]
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok());
        Picture {
            png: STANDARD.decode(data).expect("base64"),
            width: width.expect("a width"),
            pixels: pixels.expect("base64"),
        }
    }

    /// What went wrong in pages so far: exceptions, and what the browser logged
    /// as errors (what a page's policy forbids is among these).
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let mut text = command.to_string().into_bytes();
        text.push(0);
        let written = self.commands.write_all(&text).await;
        written.unwrap_or_else(|_| missing(&mut self.process));
        let answered = async {
            loop {
                let message = self.message().await;
                if message["id"] == id {
                    return message;
                }
                self.hear(&message);
            }
        };
        let mut answer = timeout(PATIENCE, answered)
            .await
            .unwrap_or_else(|_| panic!("{method}: the browser does not answer"));
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    async fn message(&mut self) -> Value {
        let mut text = Vec::new();
        let read = self.answers.read_until(0, &mut text).await;
        if text.pop() != Some(0) || read.is_err() {
            missing(&mut self.process);
        }
        serde_json::from_slice(&text).expect("the protocol is JSON")
    }

    fn hear(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params.to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            Some(_) | None => {}
        }
    }
}

fn missing(process: &mut Child) -> ! {
    let how = process.try_wait();
    panic!("no browser ({how:?}): install Debian's chromium");
}
