package com.mindspore.flclient;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A stand-in for the Java client: it checks its 22 arguments, takes part in rounds over HTTP and logs as that client
 * does, but instead of training it adds (index + 1) / 64 to every weight. The index is the number in the name of its
 * model file. In iteration k its accuracy is (k - 1) / 4 + index / 100 and the losses of two epochs are 4 and 4 - k / 8.
 * The property standin.mode makes the clients fail, standin.mode.1 only that of index 1.
 */
public final class SyncFLJob {
    private static final Logger LOGGER = Logger.getLogger(SyncFLJob.class.getName());
    private static final int IMAGE_BYTES = 32 * 32 * 3 * 4;
    private static final int POLL_MS = 100;

    private final String[] args;
    private final int index;
    private final String mode;
    private int iteration;
    private int iterations = 1;
    private int lastCode = 400;

    private SyncFLJob(String[] args) {
        this.args = args;
        Matcher number = Pattern.compile("(\\d+)\\.ms$").matcher(args[5]);
        index = number.find() ? Integer.parseInt(number.group(1)) : 0;
        String common = System.getProperty("standin.mode", "");
        mode = System.getProperty("standin.mode." + index, common);
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 22) {
            throw new IllegalArgumentException("22 arguments are needed, got " + args.length);
        }
        Files.write(Paths.get("arguments.txt"), Arrays.asList(args), StandardCharsets.UTF_8);
        SyncFLJob job = new SyncFLJob(args);
        if (job.mode.equals("silent")) {
            System.exit(0);
        }
        if (job.mode.equals("crash")) {
            System.err.println("Error: the stand-in crashes before its first record");
            System.exit(7);
        }
        job.check();
        job.run();
    }

    private void check() throws Exception {
        for (int i = 0; i < 3; i++) {
            for (String path : args[i].equals("null") ? new String[0] : args[i].split(args[3])) {
                demand(new File(path).isAbsolute() && new File(path).isFile(), i);
            }
            log("createDatasetMap", i == 0 && args[0].equals("null")
                    ? "the trainDataPath is null or empty, please check if you are in the case of only inference"
                    : "a data path: /AnonymousPath/x.bin");
        }
        for (int i = 5; i < 7; i++) {
            demand(new File(args[i]).isAbsolute() && new File(args[i]).isFile(), i);
        }
        demand(List.of("TLSv1.2", "TLSv1.3").contains(args[7]), 7);
        demand(List.of("x86", "android").contains(args[8]), 8);
        demand(args[9].matches("null|https?://.*[^/]"), 9);
        demand(args[10].equals("null") || new File(args[10]).isFile(), 10);
        demand(List.of("true", "false").contains(args[11]), 11);
        demand(List.of("NOT_BINDING_CORE", "BIND_LARGE_CORE", "BIND_MIDDLE_CORE").contains(args[15]), 15);
        demand(List.of("FEDERATED_LEARNING", "HYBRID_TRAINING").contains(args[19]), 19);
        demand(args[21].matches("null|\\d+(,\\d+)*(;\\d+(,\\d+)*)*"), 21);
        for (int i : new int[] {12, 14, 20}) {
            demand(Integer.parseInt(args[i]) > 0, i);
        }
        String modules = System.getProperty("jdk.module.path");
        if (modules == null || mode.equals("class")) {
            Class.forName(args[4]);
        }
        if (modules != null) {
            for (String folder : modules.split(File.pathSeparator)) {
                demand(new File(folder).isDirectory() && new File(folder).isAbsolute(), 4);
            }
        }
    }

    private static void demand(boolean holds, int argument) {
        if (!holds) {
            throw new IllegalArgumentException("argument " + argument + " is wrong");
        }
    }

    private void run() throws Exception {
        log("<init>", "the flName: " + args[4]);
        switch (mode) {
            case "exit3":
                System.exit(3);
                break;
            case "stubborn":
                Runtime.getRuntime().addShutdownHook(new Thread(SyncFLJob::sleepForever));
                log("task", "start syncFLJob.flJobRun()");
                sleepForever();
                break;
            case "hang":
                log("task", "start syncFLJob.flJobRun()");
                sleepForever();
                break;
            case "throw":
                throw new IllegalStateException("the stand-in throws");
            case "overflow":
                throw new java.nio.BufferOverflowException();
            default:
        }
        switch (args[13]) {
            case "train":
                log("task", "start syncFLJob.flJobRun()");
                flJobRun();
                break;
            case "inference":
                log("task", "start syncFLJob.modelInference()");
                log("modelInfer", "===========model inference=============");
                LOGGER.logp(Level.FINE, LOGGER.getName(), "modelInfer", "<FLClient> [model inference] the predicted outputs: [0, "
                        + index + ", 61]");
                log("modelInfer", "[model inference] inference finish");
                break;
            case "getModel":
                log("task", "start syncFLJob.getModel()");
                getModel(0);
                break;
            default:
                log("task", "do not do any thing!");
        }
    }

    private static void sleepForever() {
        while (true) {
            try {
                Thread.sleep(3_600_000);
            } catch (InterruptedException error) {
                continue;
            }
        }
    }

    private void flJobRun() throws Exception {
        log("flJobRun", "flJobRun start");
        boolean goesOn = true;
        while (goesOn && iteration < iterations) {
            log("flRunLoop", "flName: " + args[4]);
            log("initDataSets", "==========set input===========");
            goesOn = takePart();
        }
        log("flJobRun", "flJobRun finish");
        log("onFlJobFinished", "[onFlJobFinished] modelName: " + args[4] + " iterationCount: " + iterations
                + " resultCode: " + lastCode);
    }

    /** One iteration, or one attempt at it; says whether the job goes on. */
    private boolean takePart() throws Exception {
        int samples = (int) (new File(args[0].split(args[3])[0]).length() / IMAGE_BYTES);
        boolean evaluates = !args[1].equals("null");
        log("trainDataSize", "[startFLJob] the train data size: " + samples);
        stamp("start", "startFLJob");
        byte[] answer = post("startFLJob", Wire.table(0, args[4], 1, "stand-in-" + index, 2, iteration, 3, samples,
                4, now(), 11, evaluates ? 32 : 0));
        if (answer == null) {
            return fails("startFLJob", 400);
        }
        log("startFLJob", "[startFLJob] the response message length: " + answer.length);
        if (isText(answer)) {
            String text = new String(answer, StandardCharsets.UTF_8);
            log("isSeverJobFinished", "[isSeverJobFinished] " + text + ", will stop the task and exist");
            return fails("startFLJob", 500);
        }
        Wire.Table start = new Wire.Table(answer);
        log("doResponse", "[startFLJob] return retCode: " + start.integer(0));
        log("doResponse", "[startFLJob] reason: " + start.text(1));
        iterations = start.table(5).integer(2);
        if (start.integer(0) == 300) {
            return waitsFor("startFLJob", start.text(4), start.integer(2));
        }
        iteration = start.integer(2);
        Map<String, float[]> weights = start.weights(6);
        int values = weights.values().stream().mapToInt(each -> each.length).sum();
        log("judgeStartFLJob", "[startFLJob] ***the feature size get in ResponseFLJob***: " + values);
        log("setGlobalParameters", "[startFLJob] the GlobalParameter <iterations> from server: " + iterations);
        log("flRunLoop", "[startFLJob] startFLJob succeed, curIteration: " + iteration);
        if (evaluates) {
            log("evaluateLoop", "[evaluate] evaluate acc: " + ((iteration - 1) / 4f + index / 100f));
        }
        if (mode.equals("failed")) {
            LOGGER.logp(Level.SEVERE, LOGGER.getName(), "train", "<FLClient> [train] train failed, train loss is:NaN");
            return fails("train", 400);
        }
        float loss = train(weights, samples);
        return uploads(weights, loss) && getModel(iteration) && succeeds();
    }

    private float train(Map<String, float[]> weights, int samples) {
        int batches = samples / Integer.parseInt(args[20]);
        float loss = 4;
        for (int epoch = 0; epoch < 2; epoch++) {
            for (int batch = 0; batch < batches; batch++) {
                log("stepEnd", "batch:" + batch + ",loss:" + loss);
            }
            log("epochEnd", "----------epoch:" + epoch + ",average loss:" + loss + "----------");
            loss = epoch == 0 ? 4 - iteration / 8f : loss;
        }
        for (float[] values : weights.values()) {
            for (int i = 0; i < values.length; i++) {
                values[i] = (values[i] + (index + 1) / 64f) * samples;
            }
        }
        return loss;
    }

    private boolean uploads(Map<String, float[]> weights, float loss) throws Exception {
        byte[] request = Wire.table(0, args[4], 1, "stand-in-" + index, 2, iteration, 3, new LinkedHashMap<>(weights),
                4, now(), 6, loss);
        log("updateModel", "[updateModel] the request message length: " + request.length);
        byte[] answer = post("updateModel", request);
        if (answer == null || isText(answer)) {
            return fails("updateModel", 500);
        }
        Wire.Table update = new Wire.Table(answer);
        log("doResponse", "[updateModel] ==========retCode: " + update.integer(0));
        if (update.integer(0) == 300) {
            return waitsFor("updateModel", update.text(3), iteration);
        }
        log("doResponse", "[updateModel] updateModel success");
        return true;
    }

    private boolean getModel(int number) throws Exception {
        for (int poll = 0; poll < 600; poll++) {
            byte[] answer = post("getModel", Wire.table(0, args[4], 1, number, 2, now()));
            if (answer == null) {
                return fails("getModel", 400);
            }
            log("getModel", "[getModel] the response message length: " + answer.length);
            Wire.Table model = new Wire.Table(answer);
            log("doResponse", "[getModel] ==========retCode: " + model.integer(0));
            log("getModel", "[getModel] get response from server ok!");
            if (model.integer(0) == 200) {
                stamp("end", "getModel");
                return true;
            }
            Thread.sleep(POLL_MS);
        }
        return fails("getModel", 201);
    }

    private boolean succeeds() {
        log("flRunLoop", "=".repeat(56) + "the total response of " + iteration + ": SUCCESS" + "=".repeat(70));
        lastCode = 200;
        return true;
    }

    private boolean fails(String stage, int code) {
        log("failed", "[" + stage + "] failed");
        log("failed", "=".repeat(41) + "the total response of " + iteration + ": FAILED" + "=".repeat(41));
        lastCode = code;
        return false;
    }

    private boolean waitsFor(String stage, String moment, int seen) throws InterruptedException {
        log("resetContext", "[" + stage + "] out of time: need wait and request startFLJob again");
        Thread.sleep(Math.max(1, Long.parseLong(moment) - System.currentTimeMillis()));
        lastCode = 300;
        return seen < iterations;
    }

    private byte[] post(String name, byte[] body) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) new URL(args[9] + "/" + name).openConnection();
        connection.setDoOutput(true);
        connection.setConnectTimeout(30_000);
        connection.setReadTimeout(90_000);
        connection.setRequestProperty("Content-Type", "applicatiom/json;charset=utf-8");
        try {
            connection.getOutputStream().write(body);
            try (InputStream in = connection.getInputStream()) {
                return in.readAllBytes();
            }
        } catch (IOException error) {
            LOGGER.logp(Level.SEVERE, LOGGER.getName(), "failed", "<FLClient> [" + name
                    + "] unsolved error code: catch IOException: " + error.getMessage());
            return null;
        }
    }

    private static boolean isText(byte[] answer) {
        return new String(answer, StandardCharsets.ISO_8859_1).startsWith("The ");
    }

    private static String now() {
        return String.valueOf(System.currentTimeMillis());
    }

    private static void stamp(String what, String request) {
        log("Time", "[" + what + " time] <single " + request + "> " + what + " time: " + System.currentTimeMillis());
    }

    private static void log(String method, String text) {
        LOGGER.logp(Level.INFO, LOGGER.getName(), method, "<FLClient> " + text);
    }
}
